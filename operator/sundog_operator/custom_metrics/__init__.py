"""The custom metrics API (custom.metrics.k8s.io), which a HorizontalPodAutoscaler asks for the load."""
