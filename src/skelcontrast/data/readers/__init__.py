"""One file for each format: from a file to a `SkeletonClip`, or an error that names file and line."""
