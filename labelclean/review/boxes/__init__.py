"""Boxes in the files of annotation tools: where each is, what it is called, and how its class alone is put anew.

One file per format, each with what is found in the files (`found.FoundBoxes`) and the same files with other classes, in which
every other byte stays: `coco`, `cvat`, `label_studio`, `voc`, `yolo`. `files` says which files belong to a source.
"""
