"""How do samples get to an annotation tool, and answers strictly back? One module per tool, one manifest for all.

For others: `tools`, with `export_run` and `import_decisions`, and `label_studio_server`.
"""
