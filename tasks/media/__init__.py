"""Any video, sound or picture in; H.264 and AAC out; frame by frame, in bounded memory."""
