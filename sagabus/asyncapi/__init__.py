"""What an app says and hears, as an AsyncAPI document."""
