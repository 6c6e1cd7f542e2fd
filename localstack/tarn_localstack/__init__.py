"""AWS on one machine for Tarn's tests: emulators on loopback, functions as processes, Terraform without a registry.

`python -m tarn_localstack --help` says what it does; README.md, beside this package, says what it proves and what not.
"""
