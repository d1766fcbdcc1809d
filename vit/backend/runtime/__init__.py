"""What runs an exported model: each module has a Runtime, and reads the manifest that the file carries."""
