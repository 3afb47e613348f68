"""The edge to the Kubernetes API: it reads and writes objects, and decides nothing about them."""
