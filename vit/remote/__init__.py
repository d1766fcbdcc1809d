"""Files elsewhere: addresses of S3 and of the web, what is read through a local cache, and what is written there."""
