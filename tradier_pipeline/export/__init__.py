"""The history in the forms that other programs take: plain-text accounting, and the columns of Form 8949."""
