"""The layers of an image: tar archives of files, unpacked one over the other into one directory.

It exists apart because everything in an archive is somebody else's word: names, links, sizes. It must not
know registries, nor what the files are for.
"""
