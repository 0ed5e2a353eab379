"""One file a protocol; `parse/base.py` has the contract."""
