"""The generator keeps the contract of its kind."""

pytest_plugins = ["medtrans.testing.fixtures"]


def test_the_generator_keeps_its_contract(conforms):
    conforms("generator", "example:example")
