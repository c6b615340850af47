"""Everything that knows JupyterLab: how it is started, what it is told, and how it is asked whether it is well."""
