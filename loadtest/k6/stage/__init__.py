"""What a run is played on: a Redis, nodes of the gateway and a load balancer before them, all on this machine."""
