"""The tests: unit, contract, integration, simulation, chaos and typing."""
