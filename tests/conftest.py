"""One thread for every test and the processes it starts: sums have one order, so that runs compare bit for bit."""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before torch is imported anywhere


def pytest_addoption(parser):
    parser.addoption("--all-blocks", action="store_true", help="run the long blocks of README and chapters too")
