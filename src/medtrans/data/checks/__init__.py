"""What is looked at before a run: headers, voxels, the cohort as a whole."""
