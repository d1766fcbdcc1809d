"""A fuzzer: inputs that are nearly right go through the real commands, and each must end as a command may end."""
