"""Spans of OpenTelemetry: live in users' processes, or replayed from events."""
