package postgres

import "context"

// Installed is the PostgreSQL of the machine that Start would take for new data,
// such as "15.18 (/usr/lib/postgresql/15/bin)". It starts nothing. Its error is
// ErrNoBinaries when there is none that can be used.
func Installed(ctx context.Context) (string, error) {
	as, err := serverAccount()
	if err != nil {
		return "", err
	}
	found, err := findInstallation(ctx, searchPath(), as, 0)
	if err != nil {
		return "", err
	}
	return found.version.String() + " (" + found.dir + ")", nil
}
