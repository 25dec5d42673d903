"""The numbers of what codechunk writes. A number that is raised makes what was written before be made again.

They are not in the rooms that they speak of, so that `codechunk --version` tells them without loading grammars.
"""

# Part of the index fingerprint: raise it whenever the same bytes can give other chunks than before.
CHUNKER_VERSION = 3
# Form of the text that is embedded: header, newline, chunk. A new form is a new vector space: texts are bought anew.
HEADER_VERSION = 1
