// etcd itself, built from its module: the command cannot be installed by name because its go.mod replaces modules.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
