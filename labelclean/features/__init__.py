"""What does an image look like as a row of numbers? From files of any kind to features in the store, each content once.

For others:

- `decode`: the one policy from any file's pixels to numbers in 0..1; `preview_image` (Pillow's home, with `pixels` and `appearance`)
- `appearance`: brightness, contrast, sharpness, size and kind of a picture, before anybody looks at what it shows
- `image_files`: reads images inside the image root and refuses every other path; `ImageReject`, `content_hash`
- `boxes`: what of an image is cut out around a box, and what identifies the piece
- `decoder_pool`: many images at once, each decoder in a process that may die without harm
- `backbone`: the frozen network from its configuration (timm's one home)
- `facts`: what must be known of a backbone to find its features: digest, D, and which engine computes them
- `extraction`: from the samples' images to features in the store
- `store`: features on disk by image content
- `tiles`: a large image as overlapping tiles, and one row of them all

`pixels` turns pixel values into 0..1, `depth` puts a middle stage beside the last, `forward` runs batches through the
network, `engine` is ONNX Runtime's one home.
"""
