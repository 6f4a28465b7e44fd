"""The command line and the Prefect flows; the only package that imports prefect."""
