#!/bin/sh
# enter COMMAND...: runs a command in the namespaces of the test bed's node.
set -eu
init=
if [ "$(cut -d' ' -f22 /proc/@HOLDER@/stat 2>/dev/null)" = @STARTED@ ]; then
    # The file ends without a line break, which makes a failure of reading it.
    read -r init < /proc/@HOLDER@/task/@HOLDER@/children || true
fi
if [ -z "$init" ]; then
    echo "the test bed is not up: run \`make up\`" >&2
    exit 1
fi
export KUBECONFIG='@STATE@/pki/admin.kubeconfig' KUBECACHEDIR='@STATE@/kube-cache'
export PATH="@STATE@/bin:@PROGRAMS@:$PATH" PEERPODS_IMAGE='@IMAGE@'
exec nsenter --target "${init% }" --mount --net --pid --uts --ipc -- \
    sh -c 'cd "$0" 2>/dev/null || cd /; exec "$@"' "$PWD" "$@"
