"""What cannot be said of one template: renderings, refusals, secrets, drift."""
