"""A real Slurm of two nodes on loopback, from Debian's packages slurmctld, slurmd, slurm-client and munge.

Each node has a host name and process ids of its own, so that one of them can die with all that runs on it. Partitions:
low (preempted by requeue), high, and short (an hour at most).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "munged", "unshare")
NODES = {"n1": 17011, "n2": 17012}
CONF = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=17010
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={base}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool-%n
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd-%n.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MessageTimeout=4
MaxArraySize=2
SlurmdTimeout=6
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
{nodes}
PartitionName=low Nodes=n1,n2 Default=YES MaxTime=2-0 PriorityTier=1 PreemptMode=REQUEUE GraceTime=30 State=UP
PartitionName=high Nodes=n1,n2 MaxTime=2-0 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=short Nodes=n1,n2 MaxTime=60 PriorityTier=1 State=UP
"""
NODE = "NodeName={name} NodeHostname={name} NodeAddr=127.0.0.1 Port={port} CPUs=16 RealMemory=8000"


def why_not() -> str:
    """What is missing for it here; empty if nothing is."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurmctld slurmd slurm-client munge)"
    if os.geteuid():
        return "a Slurm of one's own needs root"
    done = subprocess.run(["unshare", "--uts", "--pid", "--mount", "--fork", "true"], capture_output=True, text=True)
    return f"no namespaces here ({done.stderr.strip()})" if done.returncode else ""


class Slurm:
    """The cluster; `environment` is what its commands need."""

    def __init__(self, base: Path):
        self.base, self.processes = base, dict[str, subprocess.Popen]()
        self.environment = os.environ | {
            "SLURM_CONF": str(base / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        }

    def start(self) -> None:
        """Start everything; raises TimeoutError if the nodes are not idle soon."""
        base = self.base
        (base / "state").mkdir()
        key = base / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        nodes = "\n".join(NODE.format(name=name, port=port) for name, port in NODES.items())
        host = socket.gethostname().split(".")[0]
        (base / "hosts").write_text(f"127.0.0.1 localhost {host} {' '.join(NODES)}\n")
        (base / "slurm.conf").write_text(CONF.format(base=base, host=host, nodes=nodes))
        files = {"key-file": key, "socket": base / "munge.socket", "pid-file": base / "munge.pid"}
        files |= {"log-file": base / "munge.log", "seed-file": base / "munge.seed"}
        self._start("munged", "munged", "--foreground", "--force", *(f"--{k}={v}" for k, v in files.items()))
        _wait_for((base / "munge.socket").exists)
        self._start("slurmctld", "slurmctld", "-D")
        for node in NODES:
            self.start_node(node)

    def start_node(self, node: str) -> None:
        """Start a node, which must not run, and wait until it is idle."""
        (self.base / f"spool-{node}").mkdir(exist_ok=True)
        code = f"hostname {node}; mount --bind {self.base}/hosts /etc/hosts; exec slurmd -D -N {node}"
        spaces = ("--uts", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child")
        # A shell stays process 1 of the node: what it starts there and forgets is reaped by it.
        self._start(node, "unshare", *spaces, "bash", "-c", f"({code}) & while :; do wait; sleep 1; done")
        _wait_for(lambda: "idle" in self.ask("sinfo", "-h", "-n", node, "-p", "low", "-o", "%t"))

    def kill_node(self, node: str) -> None:
        """End the node and everything on it at once."""
        self._kill(node)

    def stop(self) -> None:
        for name in list(self.processes):
            self._kill(name)

    def ask(self, *command: str) -> str:
        """What a command prints."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout

    def running(self) -> dict[str, tuple[str, str]]:
        """{job id: (name, node)} of the jobs that run."""
        rows = [line.split("|") for line in self.ask("squeue", "-r", "-h", "-t", "R", "-o", "%i|%j|%N").splitlines()]
        return {job: (name, node) for job, name, node in rows}

    def _start(self, name: str, *command: str) -> None:
        with open(self.base / f"{name}.out", "ab") as output:
            self.processes[name] = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    def _kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()


def _wait_for(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing after {seconds:g} s")
        time.sleep(0.1)
