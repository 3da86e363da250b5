"""What tells how good generated faces are, as pure functions; training's validation and the evaluation of dubs share them."""
