"""`--kills N`: how many times a command is killed."""


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=8, help="SIGKILLs that tests/kills sends")
