"""
The pictures: each module turns values into the places and sizes of an SVG, which a template of the same name draws.

None asks the database. A picture is drawn on a width of 1000 units, stretched to the room there is; its words are HTML.
"""

WIDTH = 1000
