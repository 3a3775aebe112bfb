"""The lecture's claims, measured on the user's machine: models trained, chapters made of them."""
