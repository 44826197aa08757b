"""`--cases N`: how many damaged inputs are tried."""


def pytest_addoption(parser):
    parser.addoption("--cases", type=int, default=300, help="damaged inputs that tests/damage tries")
