"""What goes to an OpenTelemetry Collector: how it is reached, and the samples as points of metrics."""
