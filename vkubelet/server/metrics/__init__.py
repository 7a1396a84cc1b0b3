"""What the node tells of itself and its containers in numbers: the Summary API and Prometheus' formats."""
