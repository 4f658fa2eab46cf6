"""Classes without labels: the library under the book on IIC, MIX'EM and IMC-SwAV."""

__version__ = "0.1.0"
