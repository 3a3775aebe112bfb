"""Trained models in formats for programs other than charlm."""
