"""How good a model is with few labels: drawn again and again, judged on the same patients.

Nothing is imported here, so that the command line can name its verb without torch.
"""
