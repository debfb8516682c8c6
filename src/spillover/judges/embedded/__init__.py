"""The embedded judge: ridge heads on frozen features of small models, fitted on answers that another judge has
scored.
"""
