"""How specific a backdoor trigger is, by the battery of conditions."""
