// Command probe is a workload for tests: it does what a shell cannot.
//
//	probe serve PORT         answers gRPC health checks, for every service alike
//	probe set PORT STATUS    changes what that answers: serving, not-serving
//	probe watch FOLDER       prints what inotify tells of a folder, an event a line
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

// The key by which "set" tells the server of a new status.
const statusKey = "set-status"

// A local server answers at once or is not there.
const timeout = 5 * time.Second

type server struct {
	grpc_health_v1.UnimplementedHealthServer
	status chan grpc_health_v1.HealthCheckResponse_ServingStatus
}

func (s *server) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	status := <-s.status
	if told, _ := metadata.FromIncomingContext(ctx); len(told.Get(statusKey)) == 1 {
		status = grpc_health_v1.HealthCheckResponse_SERVING
		if told.Get(statusKey)[0] != "serving" {
			status = grpc_health_v1.HealthCheckResponse_NOT_SERVING
		}
	}
	s.status <- status
	return &grpc_health_v1.HealthCheckResponse{Status: status}, nil
}

func serve(port string) error {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	health := &server{status: make(chan grpc_health_v1.HealthCheckResponse_ServingStatus, 1)}
	health.status <- grpc_health_v1.HealthCheckResponse_SERVING
	grpcServer := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(grpcServer, health)
	return grpcServer.Serve(listener)
}

func set(port, status string) error {
	connection, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, statusKey, status)
	_, err = grpc_health_v1.NewHealthClient(connection).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}

func watch(folder string) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	if err := watcher.Add(folder); err != nil {
		return err
	}
	fmt.Println("watching", folder)
	for {
		select {
		case event := <-watcher.Events:
			fmt.Println(event.Op, event.Name)
		case err := <-watcher.Errors:
			return err
		}
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 2 && arguments[0] == "serve":
		return serve(arguments[1])
	case len(arguments) == 3 && arguments[0] == "set":
		return set(arguments[1], arguments[2])
	case len(arguments) == 2 && arguments[0] == "watch":
		return watch(arguments[1])
	}
	return fmt.Errorf("usage: probe serve PORT | set PORT STATUS | watch FOLDER")
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}
