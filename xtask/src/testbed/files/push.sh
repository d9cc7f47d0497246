# The part of push-image that runs in the test bed. The images of this call have a containerd
# namespace of their own: whatever names the archive holds, they are told from all others.
set -eu
# One warning per call that cgroup v1 will go.
export CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1
archive=$1 reference=10.250.0.1:5000/$2 space=push-$$
ctr="ctr --namespace $space"
forget() {
    $ctr images ls --quiet | while read -r image; do $ctr images rm --sync "$image"; done
    ctr namespaces rm "$space"
} >/dev/null 2>&1
trap forget EXIT
$ctr images import --all-platforms --no-unpack --digests --base-name pushed "$archive" >/dev/null
image=$($ctr images ls --quiet | head -n 1)
if [ "$image" != "$reference" ]; then
    $ctr images tag "$image" "$reference" >/dev/null
fi
$ctr images push --plain-http "$reference" >/dev/null
echo "$reference"
