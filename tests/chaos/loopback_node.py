"""`ray start` of a further node on loopback: python -m tests.chaos.loopback_node start --address 127.0.0.1:PORT …

Ray takes an address on loopback for this machine's outer one, where a head that stays on loopback does not listen.
"""

import sys

from ray._private import services

LOOPBACK = "127.0.0.1"


def main() -> None:
    """What `ray` does."""
    services.get_node_ip_address = lambda address=None: LOOPBACK
    from ray.scripts.scripts import main as ray

    sys.argv += ["--node-ip-address", LOOPBACK]
    ray()


if __name__ == "__main__":
    main()
