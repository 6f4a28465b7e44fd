"""Run by test_ray_cluster.py: a Ray cluster of two nodes on loopback, each with one CPU.

Prints the address. `remove` on standard input kills the second node, `add` brings another one; the
end of the input ends the cluster.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    loopback = {"node_ip_address": "127.0.0.1", "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **loopback})
    second = cluster.add_node(num_cpus=1, **loopback)
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "remove":
            cluster.remove_node(second, allow_graceful=False)
        else:
            second = cluster.add_node(num_cpus=1, **loopback)
            # The one that was killed counts as alive until it has missed some health checks.
            cluster.wait_for_nodes(timeout=120)
        print("done", flush=True)
    cluster.shutdown()
