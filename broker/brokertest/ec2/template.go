package ec2

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

// template is a launch template. Its default version is the first.
type template struct {
	id, name string
	tags     map[string]string
	made     time.Time
	token    string
	versions []version
}

type version struct {
	data  *params
	about string
}

func (s *Server) template(id, name string) (*template, error) {
	if id != "" && s.templates[id] != nil {
		return s.templates[id], nil
	}
	for _, t := range s.templates {
		if name != "" && t.name == name {
			return t, nil
		}
	}
	if id != "" {
		return nil, &fault{"InvalidLaunchTemplateId.NotFound", fmt.Sprintf("The specified launch template, with template ID %s, does not exist.", id)}
	}
	return nil, &fault{"InvalidLaunchTemplateName.NotFoundException", fmt.Sprintf("The specified launch template, with template name %s, does not exist.", name)}
}

// version gives the number of a version.
func (t *template) version(name string) (int, error) {
	switch name {
	case "", "$Default":
		return 1, nil
	case "$Latest":
		return len(t.versions), nil
	}
	n, err := strconv.Atoi(name)
	if err != nil || n < 1 || n > len(t.versions) {
		return 0, &fault{"InvalidLaunchTemplateId.VersionNotFound", fmt.Sprintf("Could not find the specified version %s for the launch template with ID %s.", name, t.id)}
	}
	return n, nil
}

var templateName = regexp.MustCompile(`^[a-zA-Z0-9().\-/_]{3,128}$`)

func (s *Server) createLaunchTemplate(_ *http.Request, p *params) ([]element, error) {
	name, token := p.get("LaunchTemplateName"), p.get("ClientToken")
	if !templateName.MatchString(name) {
		return nil, &fault{"InvalidLaunchTemplateName.MalformedException", fmt.Sprintf("The launch template name %s is invalid.", name)}
	}
	for _, t := range s.templates {
		if token != "" && t.token == token {
			return []element{e("launchTemplate", t.described())}, nil
		}
		if t.name == name {
			return nil, &fault{"InvalidLaunchTemplateName.AlreadyExistsException", fmt.Sprintf("Launch template name already in use: %s", name)}
		}
	}
	t := &template{id: s.newID("lt"), name: name, token: token, tags: p.tagsFor("launch-template"), made: time.Now()}
	t.versions = []version{{p.at("LaunchTemplateData"), p.get("VersionDescription")}}
	s.templates[t.id] = t
	return []element{e("launchTemplate", t.described())}, nil
}

func (t *template) described() []element {
	return []element{
		e("launchTemplateId", t.id), e("launchTemplateName", t.name), e("createTime", t.made), e("createdBy", "arn:aws:iam::"+Account+":user/duffy-broker"),
		e("defaultVersionNumber", 1), e("latestVersionNumber", len(t.versions)), tagSet(t.tags),
	}
}

func (t *template) describedVersion(n int) []element {
	v := t.versions[n-1]
	return []element{
		e("launchTemplateId", t.id), e("launchTemplateName", t.name), e("versionNumber", n), e("defaultVersion", n == 1), opt("versionDescription", v.about),
		e("createTime", t.made), e("launchTemplateData", v.data.described()),
	}
}

func (s *Server) createLaunchTemplateVersion(_ *http.Request, p *params) ([]element, error) {
	t, err := s.template(p.get("LaunchTemplateId"), p.get("LaunchTemplateName"))
	if err != nil {
		return nil, err
	}
	t.versions = append(t.versions, version{p.at("LaunchTemplateData"), p.get("VersionDescription")})
	return []element{e("launchTemplateVersion", t.describedVersion(len(t.versions)))}, nil
}

func (s *Server) deleteLaunchTemplate(_ *http.Request, p *params) ([]element, error) {
	t, err := s.template(p.get("LaunchTemplateId"), p.get("LaunchTemplateName"))
	if err != nil {
		return nil, err
	}
	delete(s.templates, t.id)
	return []element{e("launchTemplate", t.described())}, nil
}

func (s *Server) describeLaunchTemplates(_ *http.Request, p *params) ([]element, error) {
	ids, err := sortedIDs(s.templates, p, "LaunchTemplateId", "InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %s, does not exist.", func(t *template) fieldsOf {
		return fieldsOf{"launch-template-name": {t.name}}.tagged(t.tags)
	})
	if err != nil {
		return nil, err
	}
	ids, next, err := s.page(p, ids)
	return []element{set("launchTemplates", ids, func(id string) []element { return s.templates[id].described() }), opt("nextToken", next)}, err
}

func (s *Server) describeLaunchTemplateVersions(_ *http.Request, p *params) ([]element, error) {
	t, err := s.template(p.get("LaunchTemplateId"), p.get("LaunchTemplateName"))
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, name := range p.texts("LaunchTemplateVersion") {
		n, err := t.version(name)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	if len(numbers) == 0 {
		for n := range t.versions {
			numbers = append(numbers, n+1)
		}
	}
	return []element{set("launchTemplateVersionSet", numbers, t.describedVersion)}, nil
}
