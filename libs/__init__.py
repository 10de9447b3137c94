"""moard's libraries: the learning maths, the wire contract, text vectors and adapters."""
