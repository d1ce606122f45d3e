"""What a call means, before the place where it is executed is known: what is asked for, and what its arguments and
options say."""
