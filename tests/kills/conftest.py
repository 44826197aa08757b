"""`--kills N`: how many times a command is killed; `--writers NAME ...`: which."""


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=4, help="SIGKILLs that tests/kills sends")
    parser.addoption("--writers", nargs="+", default=[], help="names of the commands that are killed (default: all)")
