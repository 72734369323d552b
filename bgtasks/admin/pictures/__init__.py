"""
The pictures: each module computes the positions and sizes of an SVG, which a template draws.

None of them queries the database. A picture is 1000 units wide, and the browser stretches it. Its texts are HTML.
"""

WIDTH = 1000
