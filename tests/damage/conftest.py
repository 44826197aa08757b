"""`--cases N`: how many damaged inputs are tried; `--damage-seed N`: which; `--formats NAME ...`: of these alone."""


def pytest_addoption(parser):
    parser.addoption("--cases", type=int, default=300, help="damaged inputs that tests/damage tries")
    parser.addoption("--damage-seed", type=int, default=18, help="the seed that draws them")
    parser.addoption("--formats", nargs="+", default=[], help="names of the formats that are damaged (default: all)")
