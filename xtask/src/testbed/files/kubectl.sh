#!/bin/sh
# kubectl ARGS...: kubectl of the test bed. Only its network is entered: files are the caller's own.
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
# Plugins of kubectl are found there: `kubectl peerpods`.
export PATH="@STATE@/bin:$PATH"
export KUBECONFIG='@STATE@/pki/admin.kubeconfig' KUBECACHEDIR='@STATE@/kube-cache'
exec nsenter --target "${init% }" --net -- '@PROGRAMS@/kubectl' "$@"
