"""Backends: devices, native kernels or torch, and several processes."""
