#!/bin/sh
# push-image OCI-ARCHIVE NAME:TAG: puts an image into the test bed's registry; the last line that it
# prints is the name by which pods pull it.
if [ $# -ne 2 ]; then
    echo "usage: $0 OCI-ARCHIVE NAME:TAG" >&2
    exit 2
fi
exec '@FOLDER@/enter' sh '@STATE@/config/push.sh' "$@"
