"""What `explore` stands on: every order a saga could meet, with the functional core and the memory store's rules."""
