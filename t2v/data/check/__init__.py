"""The clip doctor: what training would see of a folder, and what is wrong with it. No file of the folder is changed."""
