"""How far judges agree, rates corrected for a judge's errors, labels by people, cascades."""
